"""What all figures rest on."""

import subprocess
import sys

from tests.conftest import ROOT


def test_pandas_is_whole_before_a_second_thread_draws():
    """Plotly takes it from sys.modules: while another thread imports it, a chart would fail."""
    code = "import sys, pages.common.figures; print('pandas' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert found.stdout.strip() == "True"
