# A party's daemon: `warren serve /etc/warren/party.toml`.
FROM python:3.12 AS build
# Not the slim image: it has the C compiler that builds the kernel.
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --prefix=/install .

FROM python:3.12-slim
COPY --from=build /install /usr/local
# A volume mounted here takes over the owner.
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/warren warren
USER warren
WORKDIR /var/lib/warren
VOLUME /var/lib/warren
ENTRYPOINT ["warren"]
CMD ["serve", "/etc/warren/party.toml"]
