"""All that computes in Veil.

Knows nothing of Streamlit; imports torch only inside the modules that train.
"""

import os

# Before torch is loaded: threads that wait for each other sleep instead of spinning. A spinning
# pair on a machine whose cores others use too (the browser of the presenter, say) trained 15 to 25
# times slower here; on a quiet machine it makes no difference.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
