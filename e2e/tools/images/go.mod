// Static programs that are packed into container images: no dependencies.
module phoenix-operator/e2e/tools/images

go 1.26.0
