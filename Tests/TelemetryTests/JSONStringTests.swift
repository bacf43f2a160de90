import Foundation
import Telemetry
import Testing

@Suite struct JSONStringTests {
    private func read(_ json: String) throws -> String? {
        (try JSONSerialization.jsonObject(with: Data("[\(json)]".utf8)) as? [Any])?.first as? String
    }

    @Test func `what is escaped is what must be, and what terminals and line splitters obey`() {
        #expect(jsonString("a\"b\\c\nd\re\tf") == #""a\"b\\c\nd\re\tf""#)
        #expect(jsonString("\u{0}\u{1B}[2J\u{7F}\u{9B}") == #""\u0000\u001b[2J\u007f\u009b""#)
        #expect(jsonString("a\u{2028}b\u{2029}c\u{85}") == #""a\u2028b\u2029c\u0085""#)
        #expect(jsonString("é \u{2027}\u{202A}\u{A0}\u{1F600} /") == "\"é \u{2027}\u{202A}\u{A0}\u{1F600} /\"")
        #expect(jsonString(bytes: [0x61, 0xFF, 0xC3, 0x28, 0xE2, 0x80]) == "\"a\u{FFFD}\u{FFFD}(\u{FFFD}\"")
    }

    /// `\r\n` is one character, and so is a quote with a combining mark.
    @Test func `escaping works on bytes and not on characters`() throws {
        for text in ["\r\n", "\"\u{301}", "\\\u{20DD}", "\n\u{301}", "\u{2028}\u{301}"] {
            let json = jsonString(text)
            #expect(try read(json)?.utf8.elementsEqual(text.utf8) == true, "\(json)")
            #expect(!json.utf8.contains { $0 < 0x20 })
        }
    }

    @Test func `any text comes back from another's parser as it was, on one line`() throws {
        var generator = SystemRandomNumberGenerator()
        let pieces: [ClosedRange<UInt32>] = [
            0...0x1F, 0x20...0x7F, 0x80...0xA0, 0x300...0x36F, 0x2020...0x2030, 0xE000...0xE010, 0x1F600...0x1F610,
        ]
        for _ in 0..<20_000 {
            var scalars = String.UnicodeScalarView()
            for _ in 0..<Int.random(in: 0...12, using: &generator) {
                let range = pieces[Int.random(in: 0..<pieces.count, using: &generator)]
                if let scalar = Unicode.Scalar(UInt32.random(in: range, using: &generator)) { scalars.append(scalar) }
            }
            let text = String(scalars)
            let json = jsonString(text)
            #expect(try read(json)?.utf8.elementsEqual(text.utf8) == true, "\(json)")
            #expect(!json.unicodeScalars.contains { $0.properties.generalCategory == .control })
        }
    }

    @Test func `any bytes become a string that another's parser reads`() throws {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...12, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            #expect(try read(jsonString(bytes: bytes)) == String(decoding: bytes, as: UTF8.self))
        }
    }
}
