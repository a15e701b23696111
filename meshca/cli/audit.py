"""`meshca audit`: what happened, and whether the record of it is intact."""

import typer

from meshca.cli import (
    audit_anchors,
    audit_backup,
    audit_checkpoints,
    audit_export,
    audit_growth,
    audit_queries,
    audit_questions,
    audit_report,
    audit_retention,
    audit_verify,
    audit_verify_export,
    audit_verify_index,
)

app = typer.Typer(no_args_is_help=True, help="The tamper-evident record of what happened.")

audit_anchors.register(app)
audit_backup.register(app)
audit_checkpoints.register(app)
audit_queries.register(app)
audit_growth.register(app)
audit_questions.register(app)
audit_report.register(app)
audit_retention.register(app)
audit_export.register(app)
audit_verify.register(app)
audit_verify_export.register(app)
audit_verify_index.register(app)
