# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake nasm python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY .sqlx .sqlx
COPY scripts scripts
COPY training training
RUN scripts/models
COPY assets assets
COPY docs/api.md docs/api.md
COPY migrations migrations
COPY jobs jobs
COPY bench-gate bench-gate
COPY benches benches
COPY examples examples
COPY tests tests
COPY src src
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/photogate photogate \
    && install -d -o photogate -g photogate /var/lib/photogate/photos /var/lib/photogate/photos/.photogate
COPY --from=build /build/target/release/photogate /usr/local/bin/photogate
COPY --from=build /build/models /usr/share/photogate/models
ENV PHOTOGATE_MODELS_DIR=/usr/share/photogate/models
USER photogate
ENTRYPOINT ["photogate"]
CMD ["work"]
