# The agent in a container: no shell is needed, nothing is written but to /state and /tmp, and it is not root.
#   docker build -t backstop:0.1.0 .
#   docker run --read-only --tmpfs /tmp -v backstop-state:/state -v ./policy:/policy:ro -v ./keys:/keys:ro backstop:0.1.0
ARG BUILDER=rust:1.95-bookworm
ARG BASE=debian:bookworm-slim

FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked && install -D -m 0755 target/release/backstop /out/backstop

FROM ${BASE}
RUN if [ ! -d /etc/ssl/certs ] || [ -z "$(ls -A /etc/ssl/certs)" ]; then \
        apt-get update -qq && apt-get install -qq -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*; \
    fi \
    && printf 'backstop:x:10001:10001::/state:/usr/sbin/nologin\n' >> /etc/passwd \
    && printf 'backstop:x:10001:\n' >> /etc/group \
    && install -d -o 10001 -g 10001 -m 0700 /state
COPY --from=build /out/backstop /usr/bin/backstop
USER 10001:10001
ENV BACKSTOP_POLICY=/policy/backstop.yaml
VOLUME /state
HEALTHCHECK --interval=60s --timeout=15s --start-period=20s CMD ["/usr/bin/backstop", "run", "--probe", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/backstop"]
CMD ["run"]
