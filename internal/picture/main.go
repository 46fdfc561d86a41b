// Command picture opens a page in headless Chromium, waits until it has settled and saves what it
// looks like as a PNG. It follows one-time links, whose cookie a plain screenshot would not keep.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"os"
	"os/signal"
	"time"

	"github.com/chromedp/chromedp"
)

// settle is how long the page has to receive its first events and finish its animations.
const settle = 4 * time.Second

// The map, the services, the components and the sessions of the demo fit into that.
const width, height = 1280, 1225

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) //nolint:forbidigo // this is a program
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("say which page and which file: picture URL FILE.png")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.Flag("hide-scrollbars", true))
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	defer stop()
	ctx, closeTab := chromedp.NewContext(ctx)
	defer closeTab()

	if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, height), chromedp.Navigate(args[0])); err != nil {
		return fmt.Errorf("cannot open the page: %w", err)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
	}
	shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return fmt.Errorf("cannot take a picture of the page: %w", err)
	}
	return save(shot, args[1])
}

// save encodes the picture anew: Chromium does so fast and large.
func save(shot []byte, path string) error {
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return fmt.Errorf("cannot read the picture: %w", err)
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, picture); err != nil {
		return err
	}
	return os.WriteFile(path, small.Bytes(), 0o644)
}
