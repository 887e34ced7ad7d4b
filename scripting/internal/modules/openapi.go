package modules

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/apitable"
	"github.com/thence-dev/thence/scripting/internal/compile"
)

// openapiMembers make modules of APIs: define takes a table, as thence service import writes it into a script.
var openapiMembers = members{"define": fn{1, 1, defineAPI}}

// tables are those of all scripts of the process.
var tables tableCache

func defineAPI(r *Run, args []tengo.Object) (tengo.Object, error) {
	text, ok := args[0].(*tengo.String)
	if !ok {
		return nil, wrong(0, "the table of an API", args[0])
	}
	if len(text.Value) > compile.MaxSource {
		return nil, fmt.Errorf("the table has %d bytes, more than %d", len(text.Value), compile.MaxSource)
	}
	api, err := tables.get(text.Value)
	if err != nil {
		return nil, err
	}
	return newAPI(r, api), nil
}

// tableCache keeps the tables that scripts define: a script is run many times, and its table stays the same.
type tableCache struct {
	mu    sync.Mutex
	known map[string]*apitable.API
	bytes int
}

// maxTables bounds what is kept, in bytes of text.
const maxTables = 4 << 20

func (c *tableCache) get(text string) (*apitable.API, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if api, ok := c.known[text]; ok {
		return api, nil
	}
	api, err := apitable.Parse(strings.TrimLeft(text, "\n"))
	if err != nil {
		return nil, err
	}
	if err := checkAPI(api); err != nil {
		return nil, err
	}
	if c.bytes += len(text); c.known == nil || c.bytes > maxTables {
		c.known, c.bytes = map[string]*apitable.API{}, len(text)
	}
	c.known[text] = api
	return api, nil
}

// checkAPI checks what apitable leaves to those who use a table.
func checkAPI(api *apitable.API) error {
	if api.Name == "stripe" {
		return errors.New("the name stripe is taken: give the API another")
	}
	if api.Auth.Header == "" {
		return nil
	}
	if !secretName().MatchString(api.Auth.Secret) {
		return fmt.Errorf("%q is no name of a secret", api.Auth.Secret)
	}
	_, err := header(api.Auth.Header, str(api.Auth.Prefix))
	return err
}
