# A party's daemon: `warren serve /etc/warren/party.toml`. One image for every party and every shape of broker.
FROM python:3.12 AS build
# Not the slim image: it has the C compiler that builds the kernel.
WORKDIR /src
COPY . .
# The versions that the tests ran with.
RUN pip install --no-cache-dir --prefix=/install --constraint requirements-dev.lock ".[postgresql]"

FROM python:3.12-slim
LABEL org.opencontainers.image.title="Warren" \
      org.opencontainers.image.description="Joint model training between organisations that must not show each other their data" \
      org.opencontainers.image.licenses="GPL-3.0-or-later"
COPY --from=build /install /usr/local
# A volume mounted here takes over the owner.
RUN useradd --system --uid 10001 --user-group --create-home --home-dir /var/lib/warren warren
USER warren
WORKDIR /var/lib/warren
VOLUME /var/lib/warren
# The console, where party.toml asks for it.
EXPOSE 8700
# The daemon answers at its control socket.
HEALTHCHECK --interval=30s --timeout=20s --start-period=30s --retries=3 \
    CMD ["warren", "jobs", "--party", "/etc/warren/party.toml"]
ENTRYPOINT ["warren"]
CMD ["serve", "/etc/warren/party.toml"]
