# One image for every part: database, hosts with their servers, archiver. The command decides which.
# Build: docker build --tag bandoneon .   (where no image registry answers: deploy/docker/base-image first)
FROM debian:bookworm-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml requirements.lock ./
# Versions and hashes come from the lock; panels and tests stay out.
RUN python3 -m venv /tools \
    && sed --quiet '/^uv==/,/^[^ ]/{/^uv==/p;/^    --hash/p}' requirements.lock > uv.lock \
    && /tools/bin/pip install --quiet --require-hashes --requirement uv.lock \
    && python3 -m venv --without-pip /opt/bandoneon \
    && /tools/bin/uv pip install --quiet --no-cache --compile-bytecode --python /opt/bandoneon/bin/python \
       --require-hashes --requirement pyproject.toml --constraint requirements.lock
COPY bandoneon bandoneon
COPY device_servers device_servers
COPY archiver archiver
RUN cp --recursive bandoneon device_servers archiver /opt/bandoneon/lib/python3.11/site-packages/ \
    && /opt/bandoneon/bin/python -m compileall -q /opt/bandoneon/lib/python3.11/site-packages/bandoneon \
       /opt/bandoneon/lib/python3.11/site-packages/device_servers /opt/bandoneon/lib/python3.11/site-packages/archiver

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/bandoneon bandoneon \
    && mkdir /data /database /run/bandoneon \
    && chown bandoneon: /data /database /run/bandoneon
COPY --from=build /opt/bandoneon /opt/bandoneon
COPY deploy/docker/healthcheck.py /opt/bandoneon/healthcheck.py
ENV PATH=/opt/bandoneon/bin:$PATH PYTHONUNBUFFERED=1 OPENBLAS_NUM_THREADS=1 \
    BANDONEON_RUN=/run/bandoneon HOME=/var/lib/bandoneon
USER bandoneon
VOLUME ["/data", "/database"]
ENTRYPOINT ["/opt/bandoneon/bin/python", "-m"]
CMD ["bandoneon", "--help"]
