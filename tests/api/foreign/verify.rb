# Verifies tokens as a backend in Ruby would: ruby-jwt and our plain key set, nothing of ours.
#
# Reads {"jwks", "issuer", "leeway", "cases": [{"name", "token", "audience", "now"}]} from the standard input, and prints
# {"name": null | "why not"} for the cases. "now" is in seconds, or null for the time it is.

require 'base64'
require 'json'
require 'jwt'
require 'rbnacl'

# ruby-jwt reads the clock by itself, so the clock has to be another.
class << Time
  attr_accessor :pinned

  alias system_now now
  def now(...) = pinned ? at(pinned) : system_now(...)
end

question = JSON.parse($stdin.read)
# This version reads no OKP keys from a set, so the key is made from its `x`.
keys = question['jwks']['keys'].to_h do |key|
  public_key =
    case key['kty']
    when 'OKP' then RbNaCl::Signatures::Ed25519::VerifyKey.new(Base64.urlsafe_decode64(key['x']))
    else JWT::JWK.import(key).keypair
    end
  [key['kid'], { alg: key['alg'], public_key: public_key }]
end

def verify(token, keys, audience, question)
  _, header = JWT.decode(token, nil, false)
  key = keys[header['kid']] or raise JWT::DecodeError, 'unknown key'
  # It takes an `alg` in any case for the one that is expected, and ignores `crit`.
  raise JWT::DecodeError, 'not an access token' if header['typ'] != 'at+jwt' || header.key?('crit')
  raise JWT::DecodeError, 'not the algorithm of the key' if header['alg'] != key[:alg]

  claims, = JWT.decode(
    token, key[:public_key], true,
    algorithm: key[:alg], leeway: question['leeway'], iss: question['issuer'], verify_iss: true,
    aud: audience, verify_aud: true, required_claims: %w[iss sub aud iat nbf exp jti]
  )
  # Its own check of `iat` knows no leeway.
  raise JWT::InvalidIatError, 'issued in the future' if claims['iat'] > Time.now.to_i + question['leeway']
end

verdicts = question['cases'].to_h do |test|
  Time.pinned = test['now']
  verify(test['token'], keys, test['audience'], question)
  [test['name'], nil]
rescue JWT::DecodeError, ArgumentError, RbNaCl::CryptoError => e
  [test['name'], "#{e.class}: #{e.message}"]
rescue StandardError => e # A hostile token gets here; a backend would answer 500.
  [test['name'], "accident: #{e.class}: #{e.message}"]
end
puts JSON.generate(verdicts)
