"""The command line: `scripts/tongda`. It talks to the public HTTP API only, as any application would; `doctor` and
`secrets` alone look at PostgreSQL, Temporal and the mail server themselves."""
