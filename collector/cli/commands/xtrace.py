"""`pai-collector xtrace`: where traces are uploaded, and with which token."""

from __future__ import annotations

from typing import Annotated

import typer

from collector.catalogue.products.pai_llm_trace import GET_XTRACE_TOKEN
from collector.cli.calling import asking, text_of
from collector.cli.groups import command_group
from collector.cli.masking import hide, masked
from collector.cli.options import options_of
from collector.cli.output import print_json, print_table
from collector.cli.running import run_to_end

FIELDS = {
    "Token": "token",
    "HttpEndpoint": "HTTP endpoint",
    "HttpInternalEndpoint": "HTTP endpoint inside a VPC",
    "GrpcEndpoint": "gRPC endpoint",
    "GrpcInternalEndpoint": "gRPC endpoint inside a VPC",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    group = command_group("Uploading traces to the XTrace service.")

    @group.command()
    def token(
        context: typer.Context,
        reveal: Annotated[bool, typer.Option("--reveal", help="Print the secrets as they are.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    ) -> None:
        """Show the token and the endpoints for uploading traces, masked. The HTTP endpoints hold a token too.

        The call is free. Nothing of the answer is stored or logged; the service tells no end of its validity.
        """
        settings = options_of(context).settings()
        result = run_to_end(asking(settings)(GET_XTRACE_TOKEN.name, {}))
        hide(result.answer, GET_XTRACE_TOKEN.secret_fields)
        answer = result.answer if reveal else masked(result.answer, GET_XTRACE_TOKEN.secret_fields)
        if as_json:
            print_json(answer)
            return
        print_table("", ["xtrace", ""], [(label, text_of(answer, name) or None) for name, label in FIELDS.items()])

    app.add_typer(group, name="xtrace")
