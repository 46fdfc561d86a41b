package main

import (
	"context"
	"reflect"
	"unsafe"

	"github.com/FerretDB/FerretDB/ferretdb"
	"github.com/FerretDB/wire"
	"github.com/FerretDB/wire/wirebson"
)

// initCommands is called again once authentication is on, for it puts the check before each command.
//
//go:linkname initCommands github.com/FerretDB/FerretDB/internal/handler.(*Handler).initCommands
func initCommands(handler unsafe.Pointer)

// protect makes a user and has the server ask for one, by SCRAM. FerretDB can do that, and its own program has flags for
// it; embedded there are none, so that the fields are set in spite of their being hidden.
func protect(ctx context.Context, server *ferretdb.FerretDB, user, password string) error {
	listener := reflect.ValueOf(server).Elem().FieldByName("l").Elem()
	handler := listener.FieldByName("NewListenerOpts").Elem().FieldByName("Handler")
	handler = reflect.NewAt(handler.Type().Elem(), handler.UnsafePointer()) // without the mark that it was found in a hidden field
	for _, m := range []struct {
		name    string
		message *wire.OpMsg
	}{
		{"MsgCreate", wire.MustOpMsg("create", "setup", "$db", "admin")},
		{"MsgCreateUser", wire.MustOpMsg("createUser", user, "pwd", password, "roles", wirebson.MakeArray(0), "$db", "admin")},
	} {
		reply := handler.MethodByName(m.name).Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(m.message)})
		if err, _ := reply[1].Interface().(error); err != nil {
			return err
		}
	}
	handler.Elem().FieldByName("EnableNewAuth").SetBool(true)
	initCommands(handler.UnsafePointer())
	return nil
}
