# The suite with all that it needs to run inside a cluster: the chart `runner` starts it. Built from the top of a checkout.
FROM python:3.13-slim-bookworm AS wheel
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM alpine/helm:3.19.5 AS helm

FROM python:3.13-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libstdc++6 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=helm /usr/bin/helm /usr/local/bin/helm
RUN --mount=from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(echo /wheels/*.whl)[kubernetes]"
USER 10001:10001
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
CMD ["python3", "-m", "pytest", "--pyargs", "pytest_codexbench.suite", "--matrix=smoke", "--cb-backend=kubernetes", "--cb-plan"]
