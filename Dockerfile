# syntax=docker/dockerfile:1
# Two targets, same server:
#   docker build --target cpu -t glimpse .
#   docker build --target gpu -t glimpse:gpu .          (CUDA 13 host driver; docker run --gpus all)
# The port inside the container is not loopback, so the server asks for TLS files or an explicit --insecure:
#   docker run -p 50051:50051 -v glimpse:/data glimpse serve --insecure
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY pyproject.toml constraints.txt requirements.lock README.md LICENSE ./
COPY glimpse glimpse
COPY protos protos
COPY server server
COPY trainer/__init__.py trainer/
COPY exporter/__init__.py exporter/

FROM build AS build-cpu
# Everything from the lock, by its hash; then Glimpse itself, which may fetch nothing more.
RUN pip install --require-hashes -r requirements.lock && pip install --no-deps . && pip check

FROM build AS build-gpu
RUN pip install -c constraints.txt ".[gpu]"

FROM python:${PYTHON}-slim AS runtime
RUN groupadd --gid 10001 glimpse \
 && useradd --uid 10001 --gid glimpse --no-create-home --shell /usr/sbin/nologin glimpse \
 && install -d -o glimpse -g glimpse /data
COPY models /models
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GLIMPSE_DATA=/data \
    GLIMPSE_MODEL=/models/glimpse-lite \
    GLIMPSE_LISTEN=0.0.0.0:50051 \
    GLIMPSE_METRICS_LISTEN=0.0.0.0:9090
USER glimpse
VOLUME /data
EXPOSE 50051 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["glimpse", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["glimpse"]
CMD ["serve"]

FROM runtime AS gpu
COPY --from=build-gpu /venv /venv
ENV GLIMPSE_PROVIDER=cuda

# Last, so that a plain `docker build .` makes the CPU image.
FROM runtime AS cpu
COPY --from=build-cpu /venv /venv
