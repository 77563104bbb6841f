#!/bin/sh
# Makes Temporal's two databases and brings their schema to the version of this image. Safe to repeat.
set -eu
tool() {
  temporal-sql-tool --plugin postgres12_pgx --ep "$POSTGRES_SEEDS" -p 5432 -u "$POSTGRES_USER" "$@"
}
for kind in temporal visibility; do
  database=temporal
  [ "$kind" = temporal ] || database=temporal_visibility
  tool --db "$database" create-database
  tool --db "$database" setup-schema -v 0.0 || true # says that it exists, from the second run on
  tool --db "$database" update-schema --schema-name "postgresql/v12/$kind"
done
