#!/usr/bin/env bash
# Builds the image and runs a small campaign on kind, then one with a typo: bash k8s/smoke-test.sh. It takes a quarter of an
# hour and 8 GB of memory, and removes its cluster at the end. NOT RUN by those who wrote it, who have no Docker.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in docker kind kubectl helm; do
    command -v "$tool" > /dev/null || { echo "smoke test: $tool is missing: install it" >&2; exit 2; }
done
image=registry.example.org/kiago-ray:0.1.0-cpu
docker build --file deployments/Dockerfile --tag "$image" .
docker run --rm "$image" sh -c 'test "$(id -u)" = 1000 && ! command -v cc && test -s /usr/local/share/kiago-ray/sbom.cdx.json'

kind create cluster --name kiago-smoke --kubeconfig "${KUBECONFIG:=$(mktemp)}"
export KUBECONFIG
trap 'kind delete cluster --name kiago-smoke' EXIT
kind load docker-image "$image" --name kiago-smoke
helm install kuberay-operator kuberay-operator --repo https://ray-project.github.io/kuberay-helm/ --version 1.7.0 \
    --namespace kuberay-system --create-namespace --wait

ends_with() { # waits for the job's end, and compares the last line of its log and the number of lost clusters
    kubectl -n kiago wait rayjob/kiago-campaign --for=jsonpath='{.status.jobDeploymentStatus}'=Complete --timeout=20m
    kubectl -n kiago logs job/kiago-campaign | grep "entrypoint: exit code $1 of the command"
    test "$(kubectl -n kiago get rayjob kiago-campaign -o jsonpath='{.status.failed}' | tr -d 0)" = ""
}
kubectl apply -k k8s/overlays/kind
ends_with 0
kubectl -n kiago delete rayjob kiago-campaign --wait
kubectl kustomize k8s/overlays/kind | sed 's/^\( *\)candidates:/\1candidate:/' | kubectl apply -f -
ends_with 2
echo "smoke test: passed"
