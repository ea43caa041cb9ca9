"""`python -m tests.chaos.behind ORDERS PER_SECOND POSTGRES KAFKA [WHERE]`: an `oms demo --kafka WHERE` whose services
look for PostgreSQL and the broker at these ports, where somebody stands between.
"""

from __future__ import annotations

import sys

from ordermill.cli.run import AS_FAST_AS_IT_GOES
from ordermill.demo.launch import Options, launch
from ordermill.service.logs import configure_logging

orders, per_second, postgres, kafka, *where = sys.argv[1:]
configure_logging("launcher", "WARNING")
sys.exit(
    launch(
        Options(
            orders=int(orders),
            speed=AS_FAST_AS_IT_GOES,
            hurry=True,
            as_json=True,
            kafka=where[0] if where else None,
            per_second=float(per_second),
            through={"postgres": int(postgres), "kafka": int(kafka)},
        )
    )
)
