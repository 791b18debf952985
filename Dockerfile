# The collector as an image: docker build --tag pai-collector .
# Python is the version that the tests run with, and so are the packages: requirements/test.txt holds them to it.
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY collector collector
COPY schemas schemas
COPY sql sql
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
# An init: it forwards signals from the first moment on, and reaps what others leave behind.
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/*
# embedded is the engine for a store without a server, by far the largest part; leave it out before a ClickHouse server.
ARG EXTRAS=embedded,openapi,tracing
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=requirements/test.txt,target=/constraints.txt \
    pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore --no-compile \
        --constraint /constraints.txt "$(echo /wheels/pai_collector-*.whl)[${EXTRAS}]" \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/pai-collector --shell /usr/sbin/nologin collector
COPY contrib/docker/collector.toml /etc/pai-collector/collector.toml
ENV PYTHONUNBUFFERED=1 PAI_COLLECTOR_CONFIG=/etc/pai-collector/collector.toml
USER 10001
WORKDIR /var/lib/pai-collector
VOLUME /var/lib/pai-collector
EXPOSE 9600
# Alive means that the process answers; whether it collects is what /readyz tells.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 9600, timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--", "pai-collector"]
CMD ["run"]
