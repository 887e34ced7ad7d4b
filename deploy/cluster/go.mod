module github.com/thence-dev/thence/deploy/cluster

go 1.26.7
