# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake nasm python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY .sqlx .sqlx
COPY scripts scripts
RUN scripts/models
COPY jobs jobs
COPY migrations migrations
COPY src src
COPY tests tests
COPY benches benches
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home /var/lib/photogate photogate \
    && install -d -o photogate -g photogate /var/lib/photogate/photos
COPY --from=build /build/target/release/photogate /usr/local/bin/photogate
COPY --from=build /build/models /usr/share/photogate/models
ENV PHOTOGATE_MODELS_DIR=/usr/share/photogate/models
USER photogate
ENTRYPOINT ["photogate"]
CMD ["work"]
