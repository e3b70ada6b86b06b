"""One way to open a port, for health, metrics and agents alike."""

import ssl

from aiohttp import web


async def listen_on(
    app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
) -> tuple[web.AppRunner, int]:
    """Serve `app` until the runner is cleaned up. Returns it and the port, which was chosen where 0 was given.

    A handler is cancelled when its client goes away: that is how a lost agent is noticed.
    """
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
    return runner, int(runner.addresses[0][1])
