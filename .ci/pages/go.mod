module github.com/headgate/headgate/.ci/pages

go 1.26.0
