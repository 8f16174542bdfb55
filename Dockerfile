# Debian 12 with Python 3.11: Debian's dataset-fashion-mnist comes along, so two real data sets work without a download.
FROM python:3.11-slim-bookworm

RUN apt-get update \
 && apt-get install -y --no-install-recommends dataset-fashion-mnist \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 veil \
 && mkdir -p /veil /state /data && chown veil /state /data

WORKDIR /veil
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir -r requirements.txt -c constraints.txt
COPY app.py ./
COPY .streamlit .streamlit
COPY engine engine
COPY cache cache
COPY pages pages

USER veil
ENV VEIL_HOME=/state VEIL_DATA=/data PYTHONUNBUFFERED=1
VOLUME ["/state", "/data"]
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["streamlit", "run", "app.py", "--server.address=0.0.0.0", "--server.port=8501"]
