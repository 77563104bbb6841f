"""`python -m deploy.first_key [tenant] [app]`: makes an API key with the role owner and prints it.

Each run makes another key; the tenant and the app only where they are missing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from infra.postgres.bootstrap import bootstrap
from infra.settings import Settings


def main(arguments: Sequence[str]) -> int:
    tenant, app = [*arguments, *("main", "main")[len(arguments) :]]
    url = Settings().database_url.get_secret_value()
    print(asyncio.run(bootstrap(url, tenant=tenant, app=app, name="first key", roles=("owner",))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:3]))
