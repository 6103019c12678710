# Every target sets up what it needs in .venv; nothing global is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help env demo test check earth-tiny benchmark report-page clean

help:
	@echo "make demo        geotag 5,000 held-out satellite crops on local Ray; results in out/demo"
	@echo "make test        every check and test"
	@echo "make earth-tiny  train the bundle that ships again; result in out/earth-tiny"
	@echo "make report-page bundle the report's script from geo_ray/evaluation/page/src again; needs Node.js 20"
	@echo "make benchmark   throughput of the bulk job against bare processes, a DataLoader and Daft"

env: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[covariates,earth,gis,osm,rasters,s2,dev]'
	@# the data files of geoclip are used, its code and its dependencies are not
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps geoclip==1.3.0
	touch $@

demo: env
	$(BIN)/python jobs/demo.py

test: env check
	@# in the order of tests/conftest.py, not the files with most tests first
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

earth-tiny: env
	$(BIN)/geo-ray train earth-tiny --output out/earth-tiny
	$(BIN)/python jobs/demo.py --bundle out/earth-tiny/bundle --output out/earth-tiny/demo

benchmark: env
	@# it asks for older pyarrow and tqdm than ours, and runs with these
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps daft==0.7.26
	@# Daft holds more than 24 GiB of 20,000 photos
	$(BIN)/python jobs/benchmark.py throughput --only ViT-S-32 --ways geo-ray --json out/throughput-photos-20000.json
	$(BIN)/python jobs/benchmark.py throughput --only ViT-S-32 --num-images 2000 --json out/throughput-photos-2000.json
	$(BIN)/python jobs/benchmark.py throughput --only earth-tiny --json out/throughput-crops.json

report-page:
	cd geo_ray/evaluation/page && npm ci --ignore-scripts --no-audit --no-fund && node build.mjs

clean:
	rm -rf out
