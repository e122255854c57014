# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
# The caches stay on the builder; what is kept must be copied out of `target` in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin token-authority \
    && cp target/release/token-authority /token-authority \
    && strip --strip-debug /token-authority \
    && mkdir -p /state/keys

# glibc, libgcc and certificates; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /token-authority /usr/local/bin/token-authority
COPY catalog /usr/share/token-authority/catalog
# A volume that is mounted here takes over the owner, so that key sets can be written.
COPY --from=build --chown=65532:65532 /state /var/lib/token-authority
# The folder holds public key sets, no secrets.
# hadolint ignore=DL3064
ENV TOKEN_AUTHORITY_CATALOG_DIR=/usr/share/token-authority/catalog \
    TOKEN_AUTHORITY_KEYS_DIR=/var/lib/token-authority/keys \
    TOKEN_AUTHORITY_LISTEN=0.0.0.0:8080 \
    TOKEN_AUTHORITY_METRICS_LISTEN=0.0.0.0:9464
# 65532 is the image's `nonroot`; by number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080 9464
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["token-authority", "health"]
ENTRYPOINT ["token-authority"]
CMD ["serve"]
