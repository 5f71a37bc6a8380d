# syntax=docker/dockerfile:1
# What changes seldom has a stage of its own: tools, models, the program. Only the last stage becomes the image. It has
# the models and the stripped program, in layers of their own, and no compiler.
FROM rust:1.95-bookworm AS tools
RUN apt-get update && apt-get install -y --no-install-recommends cmake nasm python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /build

FROM tools AS models
COPY scripts/models scripts/models.sha256 scripts/prepare_models.py scripts/
COPY training/upright.onnx training/
RUN --mount=type=cache,id=photogate-pip,target=/root/.cache/pip,sharing=locked scripts/models

FROM tools AS build
COPY .cargo .cargo
COPY .sqlx .sqlx
COPY scripts/models scripts/models.sha256 scripts/prepare_models.py scripts/touch-changed scripts/
COPY training/upright.onnx training/
COPY assets assets
COPY docs/api.md docs/
COPY Cargo.toml Cargo.lock ./
COPY bench-gate bench-gate
COPY benches benches
COPY examples examples
COPY tests tests
COPY migrations migrations
COPY jobs jobs
COPY protocol protocol
COPY src src
# Dependencies stay compiled in a cache, so a changed line compiles its own crate, and those that use it.
RUN --mount=type=cache,id=photogate-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=photogate-target,target=/build/target,sharing=locked \
    scripts/touch-changed target/sources \
    && cargo build --release --locked --bin photogate \
    && scripts/touch-changed --keep target/sources \
    && mkdir /out \
    && objcopy --only-keep-debug --compress-debug-sections target/release/photogate /out/photogate.debug \
    && objcopy --strip-all --add-gnu-debuglink=/out/photogate.debug target/release/photogate /out/photogate

# For debuggers, not for the image: docker build --target debug --output target/debug-info .
FROM scratch AS debug
COPY --from=build /out/photogate.debug /

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 photogate \
    && useradd --uid 10001 --gid photogate --no-log-init --shell /usr/sbin/nologin --home-dir /var/lib/photogate photogate \
    && install -d -o photogate -g photogate /var/lib/photogate/photos /var/lib/photogate/photos/.photogate
COPY --from=models /build/models /usr/share/photogate/models
COPY --from=build /out/photogate /usr/local/bin/photogate
ENV PHOTOGATE_MODELS_DIR=/usr/share/photogate/models
# By number, so that an orchestrator can tell that it is not root.
USER 10001:10001
ENTRYPOINT ["photogate"]
CMD ["work"]
