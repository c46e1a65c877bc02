package hashring

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestProductsAreRounded reads the source of the logarithm. A compiler for arm64, ppc64le, riscv64
// or s390x may fuse a product with the next addition, and so round once instead of twice. No test
// on amd64 can detect this. So each product must be the operand of a conversion, or must be exact.
func TestProductsAreRounded(t *testing.T) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "score.go", nil, 0)
	require.NoError(t, err)
	products := 0
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "exponential" {
			continue
		}
		rounded := map[ast.Expr]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if fn, ok := n.Fun.(*ast.Ident); ok && fn.Name == "float64" {
					rounded[n.Args[0]] = true
				}
			case *ast.BinaryExpr:
				if n.Op == token.MUL {
					products++
					require.True(t, rounded[n], "%v: a product without a conversion", files.Position(n.Pos()))
				}
			}
			return true
		})
	}
	require.NotZero(t, products)
}
