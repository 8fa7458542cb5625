"""A worker whose policies are named: serve.py ADDRESS PREFIX KIND POLICIES.

With the folder CLOUD_LOG_DIR each cloud that is sampled adds a line (process) to the file `clouds` there, and takes CLOUD_SECONDS.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from triform.data import prepare
from triform.durable.connection import Target, connect
from triform.durable.policies import Policies
from triform.durable.worker import serve


def watch_clouds(place):
    sample_cloud = prepare.sample_cloud

    def watched(*args, **kwargs):
        with (place / "clouds").open("a") as clouds:
            clouds.write(f"{os.getpid()}\n")
        time.sleep(float(os.environ["CLOUD_SECONDS"]))
        return sample_cloud(*args, **kwargs)

    prepare.sample_cloud = watched


async def main(address, prefix, kind, policies):
    await serve(await connect(Target(address=address)), kind, prefix=prefix, policies=Policies(**json.loads(policies)))


if __name__ == "__main__":
    if "CLOUD_LOG_DIR" in os.environ:
        watch_clouds(Path(os.environ["CLOUD_LOG_DIR"]))
    asyncio.run(main(*sys.argv[1:]))
    os._exit(0)  # as `triform` does: the SDK's threads may abort an interpreter that is taking itself apart
