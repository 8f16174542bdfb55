"""The studies of page Synthesis: teachers, the synthetic images, students."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.study import Study
from engine.studies.synthesis import Student


@dataclass(frozen=True)
class Runs:
    """What one press of Run computes, by name."""

    student: Student  # all settings of the page
    teachers: dict[str, Study]
    images: Study
    students: dict[str, Student]  # student accuracy over the snapshots, and on real images

    @classmethod
    def of(cls, student: Student, available: int) -> Runs:
        """All studies of these settings. available: how many training images there are."""
        teachers = {
            f"teacher {i + 1}" if i else "teacher": each
            for i, each in enumerate(student.synthesis.needs())
        }
        students = student.table()
        if student.synthesis.images > available:
            del students["real images"]  # there are not as many real images to compare with
        return cls(student, teachers, student.synthesis, students)

    def all(self) -> dict[str, Study]:
        """Every study under its name."""
        return self.teachers | {"images": self.images} | self.students
