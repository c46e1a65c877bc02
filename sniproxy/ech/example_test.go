package ech_test

import (
	"errors"
	"fmt"

	"github.com/headgate/headgate/sniproxy/ech"
)

func ExampleKeys_Open() {
	key, err := ech.Generate("public.example", 7, 64)
	if err != nil {
		fmt.Println(err)
		return
	}
	keys := ech.NewKeys(key)

	// The hello of a client that has the ECHConfigList of the key.
	message := exampleHello(ech.AppendConfigList(nil, key.Config))
	opened, err := keys.Open(message)
	fmt.Println(opened.Hello.ServerName, err)

	// The hello of a client without ECH.
	_, err = keys.Open(exampleHello(nil))
	fmt.Println(errors.Is(err, ech.ErrNotOffered))
	// Output:
	// secret.example <nil>
	// true
}
