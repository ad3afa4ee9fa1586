# ringway's image: one static binary, a numeric user, nothing else. No shell: the binary has what probes need
# (`ringway health`) and drains by itself.
#
#   docker build -t localhost/ringway:0.1.0 .                                   this machine's kind of processor
#   docker buildx build --platform linux/amd64,linux/arm64 -t REGISTRY/ringway:0.1.0 --push .
#
# Without a daemon: `scripts/image`, which takes the last stage below for its word.

FROM rust:1.95-alpine AS build
# a C compiler for the allocator; Rust's own target here is musl and static
RUN apk add --no-cache build-base
WORKDIR /src
COPY . .
ENV CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_DEBUG=0
RUN cargo build --release --locked && cp target/release/ringway /ringway

FROM scratch
LABEL org.opencontainers.image.title="ringway"
LABEL org.opencontainers.image.description="A memcached proxy: one per node, consistent hashing, few connections"
LABEL org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build --chmod=0555 /ringway /ringway
USER 65532:65532
EXPOSE 5000
EXPOSE 5001
STOPSIGNAL SIGTERM
ENTRYPOINT ["/ringway"]
CMD ["run", "--listen=0.0.0.0:5000", "--admin=0.0.0.0:5001"]
