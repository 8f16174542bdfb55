"""All computation in Veil.

Nothing here imports Streamlit, and only the modules that train import torch.
"""

import os

# This must be set before torch is loaded: threads that wait for each other then sleep instead of
# spinning. On a machine whose cores other processes also use (the presenter's browser, say),
# spinning made training 15 to 25 times slower in our measurements; on an idle machine it makes no
# difference.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
