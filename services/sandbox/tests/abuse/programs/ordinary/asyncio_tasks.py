"""Works with asyncio: tasks, timeouts, threads, a subprocess where there is one."""

import asyncio

from probe import ok


async def main():
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(0.01, number)) for number in range(10)]
    assert [task.result() for task in tasks] == list(range(10))
    assert await asyncio.to_thread(sum, [1, 2]) == 3
    try:
        await asyncio.wait_for(asyncio.sleep(5), 0.01)
    except TimeoutError:
        return


asyncio.run(main())
ok("asyncio")
