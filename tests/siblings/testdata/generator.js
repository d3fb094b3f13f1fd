// Draws from Node's generators once a file appears.
const crypto = require('crypto')
const fs = require('fs')

const here = process.argv[2]
const draw = () => ({
  'node crypto.randomBytes': crypto.randomBytes(16).toString('hex'),
  'node crypto.getRandomValues': Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex'),
})
const write = (name, text) => {
  fs.writeFileSync(`${here}/${name}.new`, text)
  fs.renameSync(`${here}/${name}.new`, `${here}/${name}`)
}

draw()
write('ready.js', '')
const timer = setInterval(() => {
  if (!fs.existsSync(`${here}/go`)) return
  clearInterval(timer)
  write('drawn.js', Object.entries(draw()).map(([source, value]) => `${source} ${value}\n`).join(''))
  setInterval(() => {}, 60000)
}, 100)
