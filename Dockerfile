# One file for every service: docker build --build-arg SERVICE=memory .
# The builder installs what the service's own lock pins, then the contracts, the chassis and the service.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS builder
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# The build backend stays out of the service's environment.
COPY requirements/build.txt requirements/build.txt
RUN python -m venv /opt/build && /opt/build/bin/pip install -q --require-hashes -r requirements/build.txt
ARG SERVICE
RUN test -n "${SERVICE}" || { echo "give --build-arg SERVICE=<a folder of services/>" >&2; exit 1; }
# Dependencies change seldom: they come first, so that a change of code builds in seconds.
COPY requirements/${SERVICE}.txt requirements/service.txt
RUN python -m venv /opt/venv && /opt/venv/bin/pip install -q --require-hashes -r requirements/service.txt
COPY LICENSE LICENSE
COPY proto proto
COPY services/chassis services/chassis
COPY services/${SERVICE} services/${SERVICE}
RUN /opt/build/bin/pip wheel -q --no-deps --no-build-isolation --wheel-dir /wheels \
        ./proto ./services/chassis "./services/${SERVICE}" \
    && /opt/venv/bin/pip install -q --no-deps --no-index /wheels/*.whl \
    # Each service has one package, whose name is not the folder's; the container starts it by one name.
    && package=$(basename services/${SERVICE}/src/pagi_*) \
    && printf '#!/bin/sh\nexec python -m %s\n' "${package}" > /opt/venv/bin/serve \
    && chmod 755 /opt/venv/bin/serve \
    && /opt/venv/bin/python -c "import ${package}.bootstrap" \
    && /opt/venv/bin/pip uninstall -q -y pip setuptools
COPY --chmod=755 scripts/container_health.py /opt/venv/bin/container-health

FROM ${PYTHON_IMAGE} AS runtime
ARG SERVICE
LABEL org.opencontainers.image.title="pagi-mesh ${SERVICE}" org.opencontainers.image.licenses="Apache-2.0"
# A named volume takes its owner from the folder it is mounted on.
RUN groupadd --gid 10001 pagi && useradd --uid 10001 --gid pagi --no-create-home --home-dir /tmp pagi \
    && install -d -o pagi -g pagi -m 0700 /app/data
COPY --from=builder /opt/venv /opt/venv
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 \
    PAGI_BIND_HOST=0.0.0.0 LOG_FORMAT=json
USER pagi
CMD ["serve"]
