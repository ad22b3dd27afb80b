// Package catalogtest makes catalogs for tests: making the tables of one takes longer
// than most tests.
package catalogtest

import (
	"context"
	"sync"

	"kvol/internal/catalog"
)

// Empty is an empty catalog, for Options.Image or as a file of a catalog that nobody
// has opened yet. It is made once; nobody may change it.
var Empty = sync.OnceValue(func() []byte {
	c, err := catalog.Open(context.Background(), catalog.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	image, err := c.Image(context.Background())
	if err != nil {
		panic(err)
	}
	return image
})
