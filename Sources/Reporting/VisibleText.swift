/// Makes a text from outside readable for people, on one line and without hidden characters. `⏎` replaces the end of a
/// line. Escapes such as `\u{1b}` replace characters that move the cursor, change the direction of writing or are
/// invisible. The result cannot be converted back.
///
/// - Parameter keepsLines: whether line feeds and tabs are kept, for a text of several lines on a terminal.
public func visible(_ text: String, keepsLines: Bool = false) -> String {
    var result = String.UnicodeScalarView()
    var last: Unicode.Scalar?
    for scalar in text.unicodeScalars {
        defer { last = scalar }
        switch scalar.properties.generalCategory {
        case .control where keepsLines && (scalar == "\n" || scalar == "\t"): result.append(scalar)
        case .control where scalar == "\n":
            if last == "\r" { result.removeLast("\\u{d}".unicodeScalars.count) }
            result.append("⏎")
        case .control, .format, .lineSeparator, .paragraphSeparator:
            result.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
        default: result.append(scalar)
        }
    }
    return String(result)
}
