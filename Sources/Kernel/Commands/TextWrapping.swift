import Foundation

/// The lines of texts for people, made to fit a width.
public enum TextWrapping {
    /// The width of help texts.
    public static let helpWidth = 80

    /// The number of columns of the terminal that a descriptor leads to; nil if it leads to a file or a pipe, whose
    /// reader gets every line as it is.
    static func columns(of descriptor: Int32) -> Int? {
        var size = winsize()
        guard isatty(descriptor) == 1, ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
            return nil
        }
        return Int(size.ws_col)
    }

    /// Wraps the lines of a text between words. Lines that begin with a space, such as excerpts of a file, are kept.
    ///
    /// - Parameters:
    ///   - width: the number of columns, including the indent.
    ///   - indent: the number of spaces before each line.
    public static func wrap(_ text: String, width: Int, indent: Int = 0) -> String {
        let margin = String(repeating: " ", count: indent)
        return text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            if line.hasPrefix(" ") || indent + line.count <= width { return margin + line }
            return words(String(line), width: width - indent).map { margin + $0 }.joined(separator: "\n")
        }.joined(separator: "\n")
    }

    /// Returns the lines of one paragraph. A word that is longer than the width has a line of its own.
    private static func words(_ text: String, width: Int) -> [String] {
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ") {
            if !line.isEmpty, line.count + 1 + word.count > width {
                lines.append(line)
                line = ""
            }
            line += (line.isEmpty ? "" : " ") + word
        }
        return lines + [line]
    }

    /// Returns the lines of a cell. A word that is longer than the width is continued on the next line.
    static func cell(_ text: String, width: Int) -> [String] {
        words(text, width: width).flatMap { line -> [String] in
            var (rest, pieces) = (Substring(line), [String]())
            while rest.count > width {
                pieces.append(String(rest.prefix(width)))
                rest = rest.dropFirst(width)
            }
            return pieces + [String(rest)]
        }
    }

    /// Returns the widths of columns that fit a width together: the widest columns become narrower, down to 12.
    static func fit(_ widths: [Int], gap: Int, into width: Int) -> [Int] {
        var widths = widths
        while widths.reduce(0, +) + gap * (widths.count - 1) > width,
            let widest = widths.indices.max(by: { widths[$0] < widths[$1] }), widths[widest] > 12
        {
            widths[widest] -= 1
        }
        return widths
    }
}
