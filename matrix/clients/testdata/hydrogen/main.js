// Hydrogen, the web client, whole: its own pages, service worker and Olm, from its package.
import { FeatureSet, Platform, RootViewModel, createNavigation, createRouter } from "hydrogen-view-sdk";

const platform = new Platform({
    container: document.querySelector(".hydrogen"),
    assetPaths: {
        downloadSandbox: "assets/download-sandbox.html",
        worker: "assets/main.js",
        serviceWorker: "sw.js",
        olm: { wasm: "olm/olm.wasm", legacyBundle: "olm/olm_legacy.js", wasmBundle: "olm/olm.js" },
    },
    config: { defaultHomeServer: new URLSearchParams(location.search).get("server") },
});
const navigation = createNavigation();
platform.setNavigation(navigation);
await platform.init();
const urlRouter = createRouter({ navigation, history: platform.history });
urlRouter.attach();
const features = await FeatureSet.load(platform.settingsStorage);
const root = new RootViewModel({ platform, urlRouter, navigation, features });
platform.createAndMountRootView(root);
await root.load();
