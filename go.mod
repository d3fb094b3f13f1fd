module github.com/faas-platform/faas

go 1.26
