# Four targets from one file: operator, trainer, server, router. `docker build --target trainer -t NAME .`
# Each installs what its command imports and no more: the operator and the router have no torch. The lock files hold every
# package by version and hash. Pin the base image by digest where you build for production.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN groupadd --gid 65532 diffusion && useradd --uid 65532 --gid 65532 --no-create-home diffusion
WORKDIR /app

FROM base AS wheel
COPY requirements/bootstrap.txt requirements/bootstrap.txt
RUN pip install --require-hashes -r requirements/bootstrap.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY workloads workloads
COPY local local
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM base AS operator
COPY requirements/operator.txt requirements/operator.txt
RUN pip install --require-hashes -r requirements/operator.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels pip install --no-deps /wheels/*.whl
USER 65532:65532
ENTRYPOINT ["diffusion-operator"]
CMD ["run"]

FROM base AS trainer
COPY requirements/trainer.txt requirements/trainer.txt
RUN pip install --require-hashes -r requirements/trainer.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels pip install --no-deps /wheels/*.whl
USER 65532:65532
ENTRYPOINT ["diffusion-trainer"]
CMD ["agent"]

FROM base AS server
COPY requirements/server.txt requirements/server.txt
RUN pip install --require-hashes -r requirements/server.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels pip install --no-deps /wheels/*.whl
USER 65532:65532
ENTRYPOINT ["diffusion-server"]
CMD ["serve"]

FROM base AS router
COPY requirements/router.txt requirements/router.txt
RUN pip install --require-hashes -r requirements/router.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels pip install --no-deps /wheels/*.whl
USER 65532:65532
ENTRYPOINT ["diffusion-router"]
CMD ["serve"]
