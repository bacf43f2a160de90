import Postgres
import SQL

/// Converts the two forms in which PostgreSQL may print an array with a cast into a single form.
///
/// `status IN ('a', 'b')` on a varchar column is printed as `(ARRAY['a'::character varying, …])::text[]` if the
/// expression was created as written, and as `ARRAY[('a'::character varying)::text, …]` if it was restored from a dump.
/// The reason is that the server, when it parses the first form, moves the cast into the array (`transformArrayExpr` in
/// PostgreSQL's sources).
enum ExpressionSpelling {
    static func canonical(_ text: String) -> String {
        var text = text
        // Each pass moves one cast into an array. Nested arrays require another pass.
        while text.utf8.contains(UInt8(ascii: "[")), let pushed = pushCast(in: text) { text = pushed }
        return text
    }

    /// Rewrites the first `(ARRAY[a, b])::type[]` as `ARRAY[a::type, b::type]`; returns nil if there is none.
    private static func pushCast(in text: String) -> String? {
        guard text.contains("])::") else { return nil }
        let bytes = Array(text.utf8)
        guard let tokens = try? SQLLexer.tokens(of: bytes) else { return nil }
        let word = { (index: Int) -> String in
            tokens.indices.contains(index) ? String(decoding: bytes[tokens[index].range], as: UTF8.self) : ""
        }
        for start in tokens.indices where word(start) == "(" && word(start + 1) == "ARRAY" && word(start + 2) == "[" {
            guard let (commas, end) = elements(from: start + 3, tokens.count, word), word(end + 1) == ")",
                word(end + 2) == "::", let (type, after) = arrayType(from: end + 3, tokens, bytes, word)
            else { continue }
            let edges = [start + 2] + commas + [end]
            let parts = zip(edges, edges.dropFirst()).map { left, right in
                let range = tokens[left].range.upperBound..<tokens[right].range.lowerBound
                let element = String(decoding: bytes[range], as: UTF8.self).drop { $0 == " " }
                return right - left == 2 ? "\(element)::\(type)" : "(\(element))::\(type)"
            }
            let head = String(decoding: bytes[..<tokens[start].range.lowerBound], as: UTF8.self)
            let tail = String(decoding: bytes[after...], as: UTF8.self)
            return head + "ARRAY[" + parts.joined(separator: ", ") + "]" + tail
        }
        return nil
    }

    /// Returns the token indexes of the commas between the elements of an array, and of the array's closing bracket.
    private static func elements(
        from first: Int, _ count: Int, _ word: (Int) -> String
    ) -> (commas: [Int], end: Int)? {
        var commas: [Int] = []
        var depth = 0
        for index in first..<count {
            switch word(index) {
            case "(", "[": depth += 1
            case ")": depth -= 1
            case "]":
                if depth == 0 { return (commas, index) }
                depth -= 1
            case ",": if depth == 0 { commas.append(index) }
            default: break
            }
        }
        return nil
    }

    /// Returns the element type of the array type that begins at a token, and the byte offset after the array type.
    private static func arrayType(
        from first: Int, _ tokens: [SQLToken], _ bytes: [UInt8], _ word: (Int) -> String
    ) -> (String, Int)? {
        var index = first
        while index < tokens.count, word(index) != "[" && word(index) != "[]" {
            let kind = tokens[index].kind
            guard kind == .word || kind == .quotedIdentifier || word(index) == "." else { return nil }
            index += 1
        }
        guard index < tokens.count, index > first else { return nil }
        let type = String(
            decoding: bytes[tokens[first].range.lowerBound..<tokens[index].range.lowerBound], as: UTF8.self)
        if word(index) == "[]" { return (type, tokens[index].range.upperBound) }
        guard word(index + 1) == "]" else { return nil }
        return (type, tokens[index + 1].range.upperBound)
    }
}
