"""firn: cryo-EM movies to 3D maps, while the microscope is still collecting.

Threads of one job that wait for each other sleep, since by spinning they would take the processors of other jobs. The OpenMP runtime
reads this when it is loaded, with torch; whoever sets OMP_WAIT_POLICY decides.
"""

import os

__version__ = "0.1.0"

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
