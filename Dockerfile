# sidestream in an image of its own: the program, glibc, certificates, and nothing to log in with.
#
#   docker build -t sidestream .
#   docker run -p 8080:8080 sidestream --upstream http://app:3000 --route 'path=/api/progress/{id},poll=/api/videos/{id}'
#
# Both bases can be replaced, by a mirror or by images made at home. The first needs Rust 1.88 or newer and a C compiler, the
# second glibc and libgcc, not older than those of the first.
ARG BUILD_IMAGE=docker.io/library/rust:1.95-slim-bookworm
ARG RUN_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /build
# The dependencies are a layer of their own, which stays as long as the manifests do: built for programs that do nothing.
COPY Cargo.toml Cargo.lock ./
COPY benches/Cargo.toml benches/Cargo.toml
RUN mkdir src benches/src \
 && echo 'fn main() {}' > src/main.rs \
 && cp src/main.rs benches/src/main.rs \
 && touch src/lib.rs \
 && cargo build --release --locked \
 && rm -r src
COPY src src
# The files keep the dates they have outside, and cargo goes by dates.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

FROM ${RUN_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sidestream" \
      org.opencontainers.image.description="A sidecar for Server-Sent Events: asks the app once, and keeps the streams of all its clients alive" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE-APACHE LICENSE-MIT /licenses/
COPY --from=build /build/target/release/sidestream /usr/local/bin/sidestream
# A number, which Kubernetes can tell from root; it owns no file.
USER 65532:65532
# In a container the loopback address is the container's own, where nobody could ask for metrics. Don't publish this port:
# it asks for no password. `docker stop` kills after 10 s, so the drain is over before; where there is more time, say so.
ENV SIDESTREAM_ADMIN_LISTEN=0.0.0.0:9180 \
    SIDESTREAM_DRAIN=8s
EXPOSE 8080 9180
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 \
  CMD ["/usr/local/bin/sidestream", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/sidestream"]
