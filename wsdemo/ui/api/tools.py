"""The page's functions as tools of MCP: what gradio's server of them gets wrong, mended.

Seen with gradio 6.31: without a progress token all outputs come as one text; and an output that is
no answer (a state, a row) shifts those after it, or fails with "pop index out of range".
"""

import asyncio
from collections.abc import Sequence
from typing import Any


def mend_tools() -> bool:
    """Mends gradio's MCP server, in this process; returns whether there is one."""
    try:
        import mcp  # noqa: F401  (gradio's module is there without it, and of no use)
        from gradio.mcp import GradioMCPServer
    except ImportError:
        return False

    async def outputs(self: Any, job: Any) -> list[Any]:
        result = await asyncio.to_thread(job.result)
        return list(result) if isinstance(result, tuple) else [result]

    def answers(components: Sequence[Any], data: Any) -> list[Any]:
        if len(data) != len(components):
            return list(data)
        return [d for c, d in zip(components, data, strict=True) if not c.skip_api]

    GradioMCPServer._execute_tool_without_progress = outputs
    GradioMCPServer.pop_returned_state = staticmethod(answers)
    return True
