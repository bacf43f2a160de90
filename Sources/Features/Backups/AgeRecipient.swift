import Kernel

extension ValueSyntax where Value == String {
    /// A recipient that age accepts with `-r`: a key of age in Bech32 (BIP 173), with its checksum, or a public key of
    /// SSH.
    static var recipient: Self {
        Self { (text) throws(InvalidValue) in
            let hint = "write what 'reeve backup key new FILE' prints"
            if text.uppercased().hasPrefix("AGE-") {
                throw InvalidValue("this is an identity, which is secret, and not a recipient", hint: hint)
            }
            if text.hasPrefix("ssh-ed25519 ") || text.hasPrefix("ssh-rsa ") { return text }
            guard text.hasPrefix("age1") else {
                throw InvalidValue("'\(text)' is not an age recipient, which begins with age1", hint: hint)
            }
            guard Bech32.isValid(text) else {
                throw InvalidValue("'\(text)' is not an age recipient: its checksum is wrong", hint: hint)
            }
            return text
        }
    }
}

/// The checksum of Bech32 (BIP 173), without its limit of 90 characters, as age uses it.
enum Bech32 {
    static func isValid(_ text: String) -> Bool {
        guard text == text.lowercased(), let end = text.lastIndex(of: "1") else { return false }
        let letters = Array("qpzry9x8gf2tvdw0s3jn54khce6mua7l")
        let values = text[text.index(after: end)...].map { letters.firstIndex(of: $0) }
        guard values.count > 6, !values.contains(nil) else { return false }
        let prefix = text[..<end].utf8.map { Int($0) }
        return checksum(prefix.map { $0 >> 5 } + [0] + prefix.map { $0 & 31 } + values.compactMap { $0 }) == 1
    }

    private static func checksum(_ values: [Int]) -> Int {
        let generator = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3]
        return values.reduce(1) { sum, value in
            let top = sum >> 25
            return generator.enumerated().reduce((sum & 0x1ff_ffff) << 5 ^ value) { next, term in
                top >> term.offset & 1 == 1 ? next ^ term.element : next
            }
        }
    }
}
