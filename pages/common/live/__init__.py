"""Draw studies live: stored results at once, running ones as they progress.

- services: the store and the runner of this server
- view: a study as it can be drawn now
- following: draw it now, and again at every tick while it runs
- run_button: the button, and how long a run will take
- progress: bars, time left, the Stop button, and why a run ended
- series: several studies that run together
"""

from pages.common.live.following import follow
from pages.common.live.progress import progress
from pages.common.live.run_button import run_button
from pages.common.live.series import Series, finished
from pages.common.live.services import Services, lifespan, services
from pages.common.live.view import View, look, of_member

__all__ = [
    "Series",
    "Services",
    "View",
    "finished",
    "follow",
    "lifespan",
    "look",
    "of_member",
    "progress",
    "run_button",
    "services",
]
